"""OpenAI's endpoints beside chat: embeddings, pictures, speech and the like."""
