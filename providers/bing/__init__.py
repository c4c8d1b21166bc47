"""Bing chat: a conversation over HTTP, its turns over a SignalR hub on a websocket."""
