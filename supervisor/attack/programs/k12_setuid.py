shell = "/mnt/data/shell"
with open("/usr/bin/bash", "rb") as source, open(shell, "wb") as target:
    target.write(source.read())
try:
    os.chmod(shell, 0o6755)
except OSError:
    pass
must_be("a setuid copy", subprocess.run([shell, "-p", "-c", "id -u"], capture_output=True, text=True).stdout, "1000\n")
os.unlink(shell)
for program in ("/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/usr/bin/newuidmap"):
    if os.path.exists(program):
        got = subprocess.run([program, "--help"], capture_output=True, preexec_fn=None)
        status = subprocess.run(
            ["bash", "-c", f"exec {program} >/dev/null 2>&1 </dev/null & cat /proc/$!/status | grep ^Uid"],
            capture_output=True,
            text=True,
        ).stdout
        must_be(f"{program} runs as", "\t0\t" in status, False)
for uid in (0, 1001, 65534):
    must_fail(f"setuid {uid}", call(105, uid), EPERM, errno.EINVAL)
    must_fail(f"setgid {uid}", call(106, uid), EPERM, errno.EINVAL)
flags = {
    each.split()[1]: os.statvfs(each.split()[1]).f_flag
    for each in open("/proc/mounts")
    if not each.split()[1].startswith("/proc/")
}
must_be("mounts that honour setuid", [path for path, value in flags.items() if not value & os.ST_NOSUID], [])
done()
