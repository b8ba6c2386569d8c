"""Commands ask a daemon that speaks HTTPS in the name of a host, from where it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.daemon import daemon_with
from tests.supervisor.command_line import gaoler


@pytest.mark.root
def test_the_certificate_of_the_settings_is_believed_and_no_other(image_dir: Path, state_dir: Path) -> None:
    files = {name: state_dir / f"{name}.pem" for name in ("own", "key", "other")}
    own, other = (trustme.CA().issue_cert("gaoler.example") for _ in range(2))
    files["own"].write_bytes(b"".join(each.bytes() for each in own.cert_chain_pems))
    own.private_key_pem.write_to_path(files["key"])
    files["other"].write_bytes(other.cert_chain_pems[0].bytes())
    certificate, key = str(files["own"]), str(files["key"])
    with daemon_with(image_dir, {"GAOLER_TLS_CERTIFICATE": certificate, "GAOLER_TLS_KEY": key}) as daemon:
        done = gaoler("status", daemon=daemon, GAOLER_TLS_CERTIFICATE=certificate, GAOLER_TLS_KEY=key)
        assert done.returncode == 0, done.stderr
        another = gaoler("status", daemon=daemon, GAOLER_TLS_CERTIFICATE=str(files["other"]), GAOLER_TLS_KEY=key)
        assert another.returncode == 69
        assert "certificate verify failed" in another.stderr
        by_url = gaoler("status", "--url", f"https://{daemon.address}", daemon=daemon)
        assert by_url.returncode == 69, "what --url names has to be in the name of its host"
