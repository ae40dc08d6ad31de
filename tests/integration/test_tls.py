"""TLS on every listener: what a mount says when it is not as it should be, certificates of workers, certificates replaced while in use."""

import errno
import os
import shutil
import signal
import ssl
import socket

from certs import Authority
from harness import (SPIDER, case, check, equal, fails_with, is_mounted, main, one_line, program, run, run_ok, skip, wait_until)

USAGE, FAILED = 1, 32  # exit codes of mount(8)
LOCAL = "IP:127.0.0.1,DNS:localhost"
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def prepare(w, text="over TLS\n"):
    w.tree.mkdir(parents=True, exist_ok=True)
    (w.tree / "f").write_text(text)
    return Authority(w.path("ca"))


def tls(pair, *more):
    return ["--tls-cert", pair[0], "--tls-key", pair[1], *more]


def fails(w, server, options, *words):
    options = [*options, "timeout=10"]
    one_line(w.try_mount(server.source(), options), FAILED, "127.0.0.1", *words)
    check(not is_mounted(w.path("mnt")), "nothing is mounted")


def presented(port):
    """The certificate that a connection of now is shown, as PEM."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as connection:
        return ssl.DER_cert_to_PEM_cert(connection.getpeercert(True)).strip()


@case("a mount over TLS reads what is there; the master's name is checked; nothing goes in clear")
def mounts(w):
    ca = prepare(w)
    server = w.server(options=tls(ca.issue("master", LOCAL)))
    server.wait_output(r"listening on 127\.0\.0\.1:\d+ \(TLS\)")
    m = w.mount(server, options=["tls", f"ca={ca.cert}"])
    equal((m.point / "f").read_text(), "over TLS\n", "a file")
    equal(m.status()["state"], "online", "the state")
    named = w.mount(f"localhost:{server.port}:/{SPIDER}", options=["tls", f"ca={ca.cert}"], cache="other")
    equal((named.point / "f").read_text(), "over TLS\n", "by the host's name")
    with socket.create_connection(("127.0.0.1", server.port), 20) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        plain.settimeout(20)
        try:
            answer = plain.recv(9)
        except ConnectionResetError:
            answer = b""
        check(answer[3:4] != b"\4", f"an answer in clear: {answer}")


@case("TLS on one side only, either way")
def one_side(w):
    ca = prepare(w)
    server = w.server(options=tls(ca.issue("master", LOCAL)))
    fails(w, server, [], "speaks TLS", "option tls")
    server.stop()
    plain = w.server()
    fails(w, plain, ["tls", f"ca={ca.cert}"], "does not speak TLS")


@case("a wrong CA, an expired certificate, one for another host: each says which")
def wrong_certificates(w):
    ca = prepare(w)
    other = Authority(w.path("other"), "another CA")
    server = w.server(options=tls(ca.issue("master", LOCAL)))
    fails(w, server, ["tls", f"ca={other.cert}"], "no CA in", str(other.cert))
    server.stop()
    server = w.server(options=tls(ca.issue("late", LOCAL, days=-1)))
    server.wait_output("has expired")
    fails(w, server, ["tls", f"ca={ca.cert}"], "expired on 20")
    server.stop()
    server = w.server(options=tls(ca.issue("elsewhere", "DNS:elsewhere.example,IP:127.0.0.2")))
    fails(w, server, ["tls", f"ca={ca.cert}"], "not for the host name '127.0.0.1'")


@case("workers must show a certificate that the master's CA has signed, and has not expired")
def mutual(w):
    ca = prepare(w)
    other = Authority(w.path("other"), "another CA")
    server = w.server(options=tls(ca.issue("master", LOCAL), "--tls-client-ca", ca.cert))
    cert, key = ca.issue("worker")
    m = w.mount(server, options=["tls", f"ca={ca.cert}", f"cert={cert}", f"key={key}"])
    equal((m.point / "f").read_text(), "over TLS\n", "with a certificate")
    fails(w, server, ["tls", f"ca={ca.cert}"], "wants a certificate", "cert=")
    cert, key = other.issue("stranger")
    fails(w, server, ["tls", f"ca={ca.cert}", f"cert={cert}", f"key={key}"], "does not accept", str(cert))
    cert, key = ca.issue("tired", days=-1)
    fails(w, server, ["tls", f"ca={ca.cert}", f"cert={cert}", f"key={key}"], str(cert), "expired on 20")


@case("files that cannot work are named before anybody connects")
def bad_files(w):
    ca = prepare(w)
    one, two = ca.issue("one", LOCAL), ca.issue("two", LOCAL)
    junk = w.path("junk")
    junk.write_text("no PEM\n")
    locked = w.path("locked.key")
    run_ok(["openssl", "pkcs8", "-topk8", "-in", one[1], "-out", locked, "-passout", "pass:secret"])
    for options, words in ((tls((one[0], two[1])), ["does not belong"]), (tls((junk, one[1])), [str(junk), "no certificate"]),
                           (tls((one[0], junk)), [str(junk), "no private key"]), (tls((one[0], locked)), ["pass phrase"]),
                           (tls((w.path("nosuch"), one[1])), ["nosuch"]), (["--tls-cert", one[0]], ["--tls-key"]),
                           (["--tls-key", one[1]], ["--tls-cert"]), (["--tls-client-ca", ca.cert], ["--tls-cert"]),
                           (tls(one, "--tls-client-ca", junk), [str(junk)])):
        done = run([program("fsyncfs-server"), "--workspace", w.root, "--listen", "127.0.0.1:0", *options], timeout=20)
        check(done.returncode != 0, f"{options}: started")
        one_line(done, done.returncode, *words)
    server = w.server(options=tls(one))
    for options, words in ((["tls", f"ca={junk}"], [str(junk)]), (["tls", f"cert={one[0]}", f"key={two[1]}"], ["does not belong"]),
                           (["tls", f"ca={w.path('nosuch')}"], ["nosuch"])):
        one_line(w.try_mount(server.source(), options), FAILED, *words)
    for options, words in (([f"ca={ca.cert}"], ["ca", "tls"]), (["tls", f"cert={one[0]}"], ["key"]),
                           (["tls", f"key={one[1]}"], ["cert"]), (["tls=yes"], ["tls"])):
        one_line(w.try_mount(server.source(), options), USAGE, *words)


@case("SIGHUP: new connections get the new certificate, streams go on; a bad file keeps the old one")
def reload(w):
    ca = prepare(w)
    live = w.path("live.pem"), w.path("live.key")

    def install(pair):
        for source, target in zip(pair, live):
            shutil.copy(source, target)
    old, new = ca.issue("old", LOCAL), ca.issue("new", LOCAL)
    install(old)
    server = w.server(options=tls(live))
    m = w.mount(server, options=["tls", f"ca={ca.cert}", "refresh=push"])
    equal(presented(server.port), old[0].read_text().strip(), "the certificate at first")
    install(new)
    server.signal(signal.SIGHUP)
    wait_until(lambda: presented(server.port) == new[0].read_text().strip(), "the new certificate")
    # Over the connections that are there: a push, and contents that were never read.
    (w.tree / "f").write_text("after SIGHUP\n")
    wait_until(lambda: (m.point / "f").read_text() == "after SIGHUP\n", "a push over the old connection")
    check("is away" not in m.daemon.output(), "the mount lost its master")
    live[1].write_text("junk\n")
    server.signal(signal.SIGHUP)
    server.wait_output("the old certificate stays")
    equal(presented(server.port), new[0].read_text().strip(), "the certificate after a bad one")
    fresh = w.mount(server, options=["tls", f"ca={ca.cert}"], cache="fresh")
    equal((fresh.point / "f").read_text(), "after SIGHUP\n", "a new mount")


def reads(path):
    try:
        return path.read_text()
    except OSError:
        return None


@case("a certificate that expires while mounted: what is here reads on, the rest waits, and comes once it is replaced")
def expires_meanwhile(w):
    ca = prepare(w)
    text = "not here yet\n" * 100  # what is tiny comes with its entry
    (w.tree / "there").write_text(text)
    live = w.path("live.pem"), w.path("live.key")

    def install(name, **options):
        for source, target in zip(ca.issue(name, LOCAL, **options), live):
            shutil.copy(source, target)
    install("fine")
    server = w.server(options=tls(live))
    port = server.port
    m = w.mount(server, options=["tls", f"ca={ca.cert}", "timeout=3", "prefetch=off"])
    equal((m.point / "f").read_text(), "over TLS\n", "a file")
    server.stop()
    install("late", days=-1)
    server = w.server(port=port, options=tls(live))
    fails_with({errno.EHOSTUNREACH, errno.ETIMEDOUT}, (m.point / "there").read_text)
    equal((m.point / "f").read_text(), "over TLS\n", "what is here")
    done = run([program("fsyncfs"), "refresh", m.point])
    one_line(done, done.returncode, "expired on 20")
    install("fresh")
    server.signal(signal.SIGHUP)
    server.wait_output("were read again")
    wait_until(lambda: run([program("fsyncfs"), "refresh", m.point]).returncode == 0, "a refresh with the new certificate")
    wait_until(lambda: reads(m.point / "there") == text, "what was not here")


@case("a unix socket stays in clear beside TLS")
def unix_socket(w):
    ca = prepare(w)
    path = w.path("s")
    w.server(options=[*tls(ca.issue("master", LOCAL)), "--listen", f"unix:{path}"])
    for number, options in enumerate(([], ["tls", f"ca={ca.cert}"])):
        m = w.mount(f"unix:{path}:/{SPIDER}", options=options, cache=f"cache{number}")
        equal((m.point / "f").read_text(), "over TLS\n", f"with {options}")


@case("without ca= the CAs count that the machine trusts")
def system_roots(w):
    ca = prepare(w)
    if not os.path.exists(SYSTEM_ROOTS):
        skip(f"there is no {SYSTEM_ROOTS} here")
    server = w.server(options=tls(ca.issue("master", LOCAL)))
    fails(w, server, ["tls"], "no CA trusted by this machine", "ca=FILE")
    w.path("mnt").mkdir(exist_ok=True)
    script = ('mount --bind "$1" "$2" && "$3" mount "$4" "$5" -o "tls,cache=$6" && cat "$5/f" && umount "$5"')
    done = run_ok(["unshare", "-m", "sh", "-c", script, "sh", ca.cert, SYSTEM_ROOTS, program("fsyncfs"), server.source(),
                   w.path("mnt"), w.path("cache")])
    equal(done.stdout, "over TLS\n", "with the CA among those that the machine trusts")


main()
