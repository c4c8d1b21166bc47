def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"
