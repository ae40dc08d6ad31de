"""A CA and what it signs, made by openssl in a folder of the test's own."""

from pathlib import Path

from harness import run_ok

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    def __init__(self, folder, name="test CA"):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cert = self.folder / "ca.pem"
        self._key = self.folder / "ca.key"
        run_ok(["openssl", "req", "-x509", *KEY, "-keyout", self._key, "-out", self.cert, "-days", "30", "-subj", f"/CN={name}",
                "-addext", "keyUsage=critical,keyCertSign"])

    def issue(self, name, alt="", days=30):
        """A (certificate, key) for NAME; ALT is a list of subject alternative names as openssl writes it."""
        cert, key, request, extra = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        run_ok(["openssl", "req", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}"])
        extra.write_text(f"subjectAltName={alt}\n" if alt else "basicConstraints=CA:FALSE\n")
        run_ok(["openssl", "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial",
                "-out", cert, "-days", str(days), "-extfile", extra])
        return cert, key
