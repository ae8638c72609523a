"""The relay: what agents talk through. One process and one directory by default; `agentchat serve` runs it."""
