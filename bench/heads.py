"""The request heads of real clients, as captured on the wire, without credential and length.

Behind these come the Authorization header and, last, the Content-Length.
"""

HEADS = {
    # The fewest headers there can be.
    "plain": {"Host": "127.0.0.1", "Content-Type": "application/json"},
    # The openai package for Python, by httpx.
    "sdk": {
        "Host": "127.0.0.1:8787",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "OpenAI/Python 3.54.0",
        "x-stainless-lang": "python",
        "x-stainless-package-version": "3.54.0",
        "x-stainless-os": "Linux",
        "x-stainless-arch": "x64",
        "x-stainless-runtime": "CPython",
        "x-stainless-runtime-version": "3.11.7",
        "x-stainless-async": "false",
        "x-stainless-retry-count": "0",
        "x-stainless-read-timeout": "600",
    },
    # fetch of Node.js.
    "node": {
        "host": "127.0.0.1:8787",
        "connection": "keep-alive",
        "content-type": "application/json",
        "accept": "*/*",
        "accept-language": "*",
        "sec-fetch-mode": "cors",
        "user-agent": "node",
        "accept-encoding": "gzip, deflate",
    },
}
