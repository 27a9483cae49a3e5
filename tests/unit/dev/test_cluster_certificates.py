"""The certificates of an embedded cluster, as OpenSSL sees them."""

from __future__ import annotations

import ssl
import stat
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dev.cluster.addresses import Addresses, choose
from dev.cluster.certificates import CLIENTS, write_all

ADDRESSES = choose("test", [])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    write_all(directory, ADDRESSES)
    return directory


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize("stem", sorted(CLIENTS))
def test_a_client_certificate_names_the_user_and_the_groups(pki: Path, stem: str) -> None:
    certificate = _load(pki / f"{stem}.crt")
    user, groups = CLIENTS[stem]
    subject = certificate.subject
    assert [entry.value for entry in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    assert tuple(e.value for e in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)) == groups
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(_load(pki / "ca.crt"))


@pytest.mark.parametrize(
    ("name", "dns_name"),
    [("apiserver", "kubernetes.default.svc"), ("apiserver", "localhost"), ("kubelet", "node")],
)
def test_a_client_that_checks_names_and_addresses_accepts_the_server(
    pki: Path, name: str, dns_name: str
) -> None:
    reached_by = {"apiserver": [ADDRESSES.node, ADDRESSES.kubernetes_service], "kubelet": [ADDRESSES.node]}[
        name
    ]
    for server_name in [dns_name, "127.0.0.1", *map(str, reached_by)]:
        _handshake(pki, name, server_name)


def test_a_server_under_another_address_is_refused(pki: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(pki, "apiserver", str(Addresses(ADDRESSES.block).pods[5]))


def test_a_client_of_another_cluster_is_refused(pki: Path, tmp_path: Path) -> None:
    write_all(tmp_path, ADDRESSES)
    with pytest.raises(ssl.SSLError):
        _handshake(pki, "apiserver", "127.0.0.1", client=tmp_path)


def test_only_the_owner_can_read_a_key(pki: Path) -> None:
    keys = list(pki.glob("*.key"))
    assert len(keys) == len(CLIENTS) + 5  # the authority, three servers, the signer of ServiceAccount tokens
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_every_address_is_an_address_and_not_a_name(pki: Path) -> None:
    names = _load(pki / "apiserver.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert IPv4Address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)


def _handshake(pki: Path, server: str, server_name: str, client: Path | None = None) -> None:
    """A TLS 1.3 handshake in memory, both sides authenticated."""
    here = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    here.load_cert_chain((client or pki) / "admin.crt", (client or pki) / "admin.key")
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    there.verify_mode = ssl.CERT_REQUIRED
    there.load_cert_chain(pki / f"{server}.crt", pki / f"{server}.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    pair = [
        here.wrap_bio(to_client, to_server, server_hostname=server_name),
        there.wrap_bio(to_server, to_client, server_side=True),
    ]
    while pair:
        for side in list(pair):
            try:
                side.do_handshake()
                pair.remove(side)
            except ssl.SSLWantReadError:
                continue
