"""What keeps other users of the machine out of the local store: loopback is everybody's.

S3 asks for keys by itself. SeaweedFS' other ports do not: with these settings they take no write over HTTP without a
signed token, and nothing over gRPC without a certificate. All of it is drawn anew with every start.
"""

import datetime
import ipaddress
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.core.ports import LOOPBACK

_SIGNED = ("JWT_SIGNING", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
_COMPONENTS = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")
_VALID = datetime.timedelta(days=365)  # a run is shorter


def protection(folder: Path) -> dict[str, str]:
    """SeaweedFS' settings as variables of its environment; the certificate lies in `folder`, for its owner only."""
    certificate, key = folder / "grpc.crt", folder / "grpc.key"
    _write_certificate(certificate, key)
    settings = {f"WEED_{name}_KEY": secrets.token_hex(20) for name in _SIGNED}
    settings["WEED_GRPC_CA"] = str(certificate)
    for component in _COMPONENTS:
        settings[f"WEED_GRPC_{component}_CERT"] = str(certificate)
        settings[f"WEED_GRPC_{component}_KEY"] = str(key)
    return settings


def _write_certificate(certificate: Path, key: Path) -> None:
    """One certificate for all parts of the store, which trust it and no other."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bin-counter local store")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    certificate.write_bytes(signed.public_bytes(pem))
