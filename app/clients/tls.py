"""TLS for upstream connections."""

import os
import ssl

import certifi


class TLSContext(ssl.SSLContext):
    """Verifying, HTTP/1.1 only, and resuming: a host's last session is offered to it again.

    asyncio and uvloop have no parameter for a session, but both make their TLS objects through
    `wrap_bio`. A session that the upstream no longer knows costs nothing but the full handshake.
    Sessions are this process's and this context's own; TLS 1.3 early data is not used.
    """

    sessions: dict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, made: ssl.SSLObject) -> None:
        """Called once a response came: with TLS 1.3, sessions arrive after the handshake."""
        session = made.session
        if session is not None and session.has_ticket and isinstance(made.server_hostname, str):
            self.sessions[made.server_hostname] = session


def tls_context() -> TLSContext:
    """Trusts SSL_CERT_FILE and SSL_CERT_DIR when they are set, else certifi's collection."""
    context = TLSContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.set_alpn_protocols(["http/1.1"])
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context.load_verify_locations(file or None, folder or None)
    else:
        context.load_verify_locations(certifi.where())
    return context
