for directory, limit in (("/mnt/data", LIMITS["workspace_inodes"] + 100), ("/tmp", LIMITS["temporary_inodes"] + 100)):
    made = 0
    try:
        for number in range(limit + 1000):
            os.close(os.open(f"{directory}/{number}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as error:
        must_fail(f"inodes of {directory}", error.errno, errno.ENOSPC)
    must_be(f"{directory} holds at most {limit} files", made <= limit, True)
    for number in range(made):
        os.unlink(f"{directory}/{number}")
done()
