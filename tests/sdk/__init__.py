"""The official clients beside the newest Python one: an old Python SDK and the npm package.

They live in folders of the virtual environment that runs the tests, put there by
`python -m tests.sdk.install` (`make test` does it once).
"""
