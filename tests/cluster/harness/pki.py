"""Certificates and kubeconfigs of one cluster: one authority, a pair for every part, files only root can read.

Written once, when a cluster is made; a node that comes back finds its own again. Called by controlplane, node and
cluster.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 30
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Authority:
    """A certificate authority and the folder that its pairs are written to, as NAME.crt and NAME.key."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def client(self, name: str, user: str, *groups: str) -> None:
        """A pair for a client: `user` is its name in RBAC, `groups` its groups."""
        self._issue(name, user, groups, usage=CLIENT, names=())

    def server(self, name: str, names: Sequence[str]) -> None:
        """A pair for a server that is reached by `names`, host names and addresses."""
        self._issue(name, name, (), usage=SERVER, names=names)

    def kubeconfig(self, path: Path, name: str, server: str) -> None:
        """A kubeconfig at `path` for the client pair `name`; it holds the pair, and needs no other file."""
        encoded = {part: _base64(self.folder / f"{name}.{part}") for part in ("crt", "key")}
        cluster = {"server": server, "certificate-authority-data": _base64(self.ca)}
        user = {"client-certificate-data": encoded["crt"], "client-key-data": encoded["key"]}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "evergraft-test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "evergraft-test", "context": {"cluster": "evergraft-test", "user": name}}],
            "current-context": "evergraft-test",
        }
        _write(path, json.dumps(document, indent=1).encode())

    def _issue(
        self, name: str, user: str, groups: Sequence[str], *, usage: x509.ObjectIdentifier, names: Sequence[str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(user, groups), self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        _write_pair(self.folder, name, key, builder.sign(self.key, hashes.SHA256()))


def make_authority(folder: Path) -> Authority:
    """A new authority in `folder`, with the key pair of service accounts beside it."""
    folder.mkdir(parents=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("evergraft-test", ())
    builder = _builder(subject, subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_authority_usage(), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    _write_pair(folder, "ca", key, certificate)
    accounts = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "accounts.key", _pem(accounts))
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    _write(folder / "accounts.pub", accounts.public_key().public_bytes(encoding, form))
    return Authority(folder=folder, key=key, certificate=certificate)


def load_authority(folder: Path) -> Authority:
    """The authority that `make_authority` wrote to `folder`."""
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    return Authority(folder=folder, key=key, certificate=certificate)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_usage() -> x509.KeyUsage:
    """May sign certificates, and nothing else; strict verifiers ask for it."""
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(user: str, groups: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, nothing)


def _write_pair(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write(folder / f"{name}.key", _pem(key))
    _write(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
