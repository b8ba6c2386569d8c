exec yes 1>&2
