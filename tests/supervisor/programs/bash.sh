# Ordinary shell work. A tool that the image does not have is passed over.
cd /tmp || exit 1
for i in $(seq 1 100); do echo "line $i $((RANDOM % 7))"; done > a
{
    # text
    sort -k3n --parallel=2 a | uniq -c | head -5 > b
    grep -P 'line \d+5\b' a | wc -l
    sed -i 's/line/row/' a
    awk '{ s += $3 } END { print s }' a
    find / -maxdepth 2 -name 'b*' | xargs -P 2 -n 5 ls -ld
    diff <(echo a) <(echo b)

    # files
    cp --reflink=auto a c
    cp -a a d
    mv d e
    ln -s a l
    ln a h
    mkfifo p
    (cat p &)
    echo x > p
    touch -d yesterday a
    chmod 700 a
    stat a
    df /tmp
    du -sh .
    tar czf t.tgz a b c && tar tzf t.tgz
    gzip -k c
    bzip2 -k b
    xz -k e
    cmp a c
    md5sum a
    split -l 10 a part
    dd if=/dev/zero of=z bs=1M count=20
    shred -u z
    truncate -s 100M sparse
    tail -n 2 a

    # processes
    sleep 20 & kill %1
    wait
    trap 'echo trapped' USR1
    kill -USR1 $$
    timeout 0.1 sleep 5
    (exit 3)
    coproc cat
    echo q >&"${COPROC[1]}"
    read -r -t 1 _ <&"${COPROC[0]}"
    flock lock true
    nice -n 5 true
    nohup true
    setsid true
    ulimit -n

    # who and where am I
    id; uname -a; date -u; hostname; ps aux; free; nproc; locale; getent passwd; who
    stty -a; tput cols; tty; ls --color=auto -la; env | sort

    # other languages, and the network's own loopback
    perl -e 'use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); fork or exit; wait'
    python3 -c 'import socket, subprocess; socket.create_server(("127.0.0.1", 0)); subprocess.run("true")'
    node -e '1 + 1'
    git init -q repo && git -C repo -c user.name=a -c user.email=a@b commit -q --allow-empty -m a && git -C repo log
    echo 'int main(void) { return 0; }' > m.c && gcc m.c -o m && ./m
    curl -s -m 1 http://127.0.0.1:9/
    echo > /dev/tcp/127.0.0.1/9
} > /dev/null 2>&1
echo done
