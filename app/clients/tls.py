"""The TLS context of upstream connections."""

import os
import ssl

import certifi


class TLSContext(ssl.SSLContext):
    """Verifies certificates, offers HTTP/1.1 only, and resumes the last session of a host.

    asyncio and uvloop have no parameter for a session, but both make their TLS objects through
    `wrap_bio`. A session that the upstream no longer knows costs nothing but the full handshake.
    Sessions are not shared between processes; TLS 1.3 early data is not used.
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
        """Makes a TLS object that offers the host's last session (ssl.SSLContext)."""
        if isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def remember(self, made: ssl.SSLObject) -> None:
        """Stores the session of a connection, after a response: TLS 1.3 sends it late."""
        session = made.session
        if session is not None and session.has_ticket and isinstance(made.server_hostname, str):
            self.sessions[made.server_hostname] = session


def tls_context() -> TLSContext:
    """A context that trusts SSL_CERT_FILE and SSL_CERT_DIR if they are set, else certifi's list."""
    context = TLSContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.set_alpn_protocols(["http/1.1"])
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context.load_verify_locations(file or None, folder or None)
    else:
        context.load_verify_locations(certifi.where())
    return context
