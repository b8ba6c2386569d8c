names = set(os.environ)
if NETWORK:
    # Where package managers of the sandbox install to, and whom they trust, as docs/network.md says.
    told = ("PIP_", "npm_config_", "UV_", "GO", "CARGO_", "SSL_CERT", "REQUESTS_CA", "CURL_CA", "NODE_EXTRA", "GIT_SSL")
    names = {name for name in names if "KEY" in name or "TOKEN" in name or not name.startswith(told)} - {"PYTHONUSERBASE"}
must_be(
    "strange variables",
    {
        name
        for name in names
        if "GAOLER" in name
        or "KEY" in name
        or "TOKEN" in name
        or "SECRET" in name
        or name.startswith(("AWS", "SSH", "PIP", "npm"))
    },
    set(),
)
must_be(
    "known ones",
    names
    - {
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "TMPDIR",
        "NODE_PATH",
        "TERM",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
        "MPLBACKEND",
        "MPLCONFIGDIR",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "LC_CTYPE",
    },
    set(),
)
must_be("init's", open("/proc/1/environ", "rb").read(), b"")
must_be("the host's name", os.uname().nodename, "sandbox")
done()
