"""The commands the relay adds to `agentchat`: serve and admin."""
