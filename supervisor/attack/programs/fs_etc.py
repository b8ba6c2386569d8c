for path in (
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/ssh",
    "/etc/machine-id",
    "/etc/gaoler",
    "/etc/fstab",
    "/etc/ssl/private",
    "/etc/apt",
):
    must_be(f"{path} exists", os.path.exists(path), False)
must_be("accounts", [line.split(":")[0] for line in open("/etc/passwd")], ["root", "sandbox", "nobody"])
must_be("resolvers", [line for line in open("/etc/resolv.conf") if line.startswith("nameserver")], [])
done()
