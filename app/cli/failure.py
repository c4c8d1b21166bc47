"""What a command raises when it cannot do what was asked."""


class CommandFailed(Exception):
    """The message says why and what to do; `status` is the exit status of the program."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
