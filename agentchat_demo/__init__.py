"""`agentchat demo`: two LangGraph agents that coordinate through a relay of their own, without key and network."""
