"""What each operation means, one noun per file: plain synchronous functions over a transaction. No HTTP, no engine."""
