"""TLS contexts of a member: TLS 1.3, certificates on both sides, its swarm's CA and no other.

Knows no sockets. Names of hosts are not checked: a peer is its key, which the dialler compares.
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from manyhands.errors import ResourceError, UserError
from manyhands.trust.certificate import Membership


class Contexts:
    """`server` and `client` of one member; `renew` changes what they show from then on.

    `door` is a server that strangers reach as well: they show nothing, and are not believed
    anything; who shows a certificate must be a member.
    """

    __slots__ = ("client", "door", "membership", "server")

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.server = _context(ssl.PROTOCOL_TLS_SERVER, membership)
        # No tickets: whoever resumes a session is not asked for a certificate again, so one that
        # has ended in between would still be let in.
        self.server.num_tickets = 0
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT, membership)
        self.door = _context(ssl.PROTOCOL_TLS_SERVER, membership)
        self.door.num_tickets = 0
        self.door.verify_mode = ssl.CERT_OPTIONAL
        self._show(membership)

    def renew(self, membership: Membership) -> None:
        """Show a newer certificate from now on.

        Raises UserError when peer or swarm is another, ResourceError when it cannot be shown now:
        the one before is shown still, and it can be tried again.
        """
        if membership.swarm != self.membership.swarm:
            raise UserError("the renewed membership is of another swarm; open the node anew for it")
        if membership.keys.peer != self.membership.keys.peer:
            raise UserError("the renewed membership is of another peer; open the node anew for it")
        self._show(membership)
        self.membership = membership

    def _show(self, membership: Membership) -> None:
        # The ssl module reads keys from files only. The file is in a folder that nobody else may
        # enter, is gone at once, and what might be left on the disk is encrypted with a password
        # that was never anywhere but here.
        password = secrets.token_bytes(32).hex()
        key_pem = membership.keys.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
        )
        try:
            with tempfile.TemporaryDirectory(prefix="manyhands-") as folder:
                path = Path(folder) / "member.pem"
                path.touch(mode=0o600)
                path.write_bytes(key_pem + membership.certificate_pem)
                for context in (self.server, self.client, self.door):
                    context.load_cert_chain(path, password=password)
        except OSError as error:  # a full disk, a temporary folder that is gone
            raise ResourceError(
                f"the certificate cannot be shown: {error}; free space in the folder for temporary "
                "files, or name another one (TMPDIR)"
            ) from error


def stranger() -> ssl.SSLContext:
    """For whoever is no member yet: it takes any server, and must compare the key it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(protocol: int, membership: Membership) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_TICKET
    context.load_verify_locations(cadata=membership.authority_pem.decode("ascii"))
    return context
