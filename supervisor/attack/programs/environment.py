names = set(os.environ)
# Without a network package managers are told to give up at once, and where to put what they cache.
OFFLINE = {
    "PIP_RETRIES": "0",
    "npm_config_fetch_retries": "0",
    "CARGO_NET_RETRY": "0",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_CACHE_DIR": "/tmp/.cache/pip",
    "npm_config_cache": "/tmp/.npm",
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
}
if not NETWORK:
    names -= {name for name, value in OFFLINE.items() if os.environ.get(name) == value}
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
