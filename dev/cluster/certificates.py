"""A certificate authority of the cluster's own and everything it signs.

Names follow "PKI certificates and requirements" and "Authenticating" of the Kubernetes documentation: the subject's
common name is the user, its organisations are the groups.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dev.cluster.addresses import Addresses
from dev.cluster.layout import NODE_NAME

_LIFETIME = timedelta(days=3650)
_BACKDATED = timedelta(hours=1)  # clocks of hosts and guests differ by a little

# file stem -> (user, groups)
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("pilothouse-admin", ("system:masters",)),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kubelet-client": (f"system:node:{NODE_NAME}", ("system:nodes",)),
    "kube-proxy": ("system:kube-proxy", ()),
}


class Authority:
    """A self-signed certificate authority held in memory; its key reaches the disk only through `write`."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilothouse-ca")])
        self.certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue_client(
        self, user: str, groups: Sequence[str]
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A key and a certificate that authenticates `user`, a member of `groups`."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        return self._issue(x509.Name(attributes), ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def issue_server(
        self, name: str, dns_names: Sequence[str], addresses: Sequence[IPv4Address]
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A key and a certificate for a server reached by any of these names and addresses."""
        alternatives = [*map(x509.DNSName, dns_names), *map(x509.IPAddress, addresses)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def _issue(
        self, subject: x509.Name, purpose: x509.ObjectIdentifier, alternatives: Sequence[x509.GeneralName]
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return key, builder.sign(self._key, hashes.SHA256())

    def write(self, directory: Path) -> None:
        """Write `ca.crt` and `ca.key` (the controller manager signs CertificateSigningRequests with it)."""
        _write_pair(directory / "ca", self._key, self.certificate)


def write_all(directory: Path, addresses: Addresses) -> None:
    """Make a new authority and every key pair that the components need; keys are readable by their owner only."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    authority.write(directory)
    loopback = IPv4Address("127.0.0.1")
    api_names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    api_names.append("kubernetes.default.svc.cluster.local")
    api_addresses = [loopback, addresses.node, addresses.kubernetes_service]
    _write_pair(directory / "apiserver", *authority.issue_server("kube-apiserver", api_names, api_addresses))
    _write_pair(
        directory / "kubelet", *authority.issue_server(NODE_NAME, [NODE_NAME], [loopback, addresses.node])
    )
    _write_pair(directory / "controllers", *authority.issue_server("controllers", [], [addresses.node]))
    for stem, (user, groups) in CLIENTS.items():
        _write_pair(directory / stem, *authority.issue_client(user, groups))
    signer = ec.generate_private_key(ec.SECP256R1())
    _write_private(directory / "service-account.key", _key_pem(signer))
    (directory / "service-account.pub").write_bytes(
        signer.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _write_pair(stem: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_private(stem.with_suffix(".key"), _key_pem(key))
    stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
