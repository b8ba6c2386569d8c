# The dynamic linker tells with which ids the kernel started it: for every setuid program there is, and for our own. An
# image with a root of its own has none.
looked = 0
for top in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local/bin"):
    for directory, _, files in os.walk(top):
        for name in files:
            path = f"{directory}/{name}"
            try:
                mode = os.lstat(path)
            except OSError:
                continue
            looked += 1
            if not stat.S_ISREG(mode.st_mode) or not mode.st_mode & 0o6000 or not os.access(path, os.X_OK):
                continue
            try:
                said = subprocess.run(
                    [path, "--help"],
                    env={"LD_SHOW_AUXV": "1"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=1,
                ).stdout
            except subprocess.TimeoutExpired as error:
                said = error.stdout or b""
            text = said.decode(errors="replace")
            told = dict(line.split(":", 1) for line in text.splitlines() if line.startswith("AT_"))
            for key in ("AT_EUID", "AT_UID", "AT_EGID", "AT_GID"):
                must_be(f"{path} {key}", told.get(key, "?").strip(), "1000")
            must_be(f"{path} AT_SECURE", told.get("AT_SECURE", "?").strip(), "0")
must_be("programs were looked at", looked > 100, True)
done()
