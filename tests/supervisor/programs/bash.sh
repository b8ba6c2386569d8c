# Ordinary shell work. What a tool of the image is called and is missing here is passed over.
set -u
cd /tmp
for i in $(seq 1 100); do echo "line $i $((RANDOM % 7))"; done > a
sort -k3n --parallel=2 a | uniq -c | head -5 > b; grep -P 'line \d+5\b' a | wc -l > /dev/null; sed -i 's/line/row/' a; awk '{ s += $3 } END { print s }' a > /dev/null
find / -maxdepth 2 -name 'b*' 2>/dev/null | xargs -P 2 -n 5 ls -ld > /dev/null
cp --reflink=auto a c; cp -a a d; mv d e; ln -s a l; ln a h; mkfifo p; (cat p > /dev/null &) ; echo x > p; touch -d yesterday a; chmod 700 a; stat a > /dev/null; df /tmp > /dev/null; du -sh . > /dev/null
tar czf t.tgz a b c && tar tzf t.tgz > /dev/null; gzip -k a; bzip2 -k b 2>/dev/null; xz -k c 2>/dev/null; diff a c > /dev/null; cmp a c > /dev/null; md5sum a | cut -c1-4 > /dev/null; split -l 10 a part; dd if=/dev/zero of=z bs=1M count=20 2>/dev/null; truncate -s 1G sparse; shred -u z 2>/dev/null
sleep 20 & kill %1; wait; trap 'echo trapped > /dev/null' USR1; kill -USR1 $$; timeout 0.1 sleep 5; (exit 3) || true; diff <(echo a) <(echo b) > /dev/null; coproc cat; echo q >&"${COPROC[1]}"; read -r -t 1 _ <&"${COPROC[0]}"
flock lock true; nice -n 5 true; nohup true > /dev/null 2>&1; setsid true; ulimit -n > /dev/null; id > /dev/null; uname -a > /dev/null; date -u > /dev/null; hostname > /dev/null 2>&1; ps aux > /dev/null 2>&1; free > /dev/null 2>&1; stty -a > /dev/null 2>&1; tput cols > /dev/null 2>&1; env | sort > /dev/null; locale > /dev/null; getent passwd > /dev/null; tty > /dev/null; who > /dev/null 2>&1; tail -n 2 a > /dev/null; ls --color=auto -la > /dev/null; nproc > /dev/null
command -v perl > /dev/null && perl -e 'use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); fork or exit; wait; print ""' ; python3 -c 'import socket, subprocess; socket.create_server(("127.0.0.1", 0)); subprocess.run("true")'
command -v node > /dev/null && node -e '1 + 1'; command -v git > /dev/null && git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a && git log > /dev/null && cd ..
command -v gcc > /dev/null && echo 'int main(void) { return 0; }' > m.c && gcc m.c -o m && ./m; command -v curl > /dev/null && curl -s -m 1 http://127.0.0.1:9/ > /dev/null; (echo > /dev/tcp/127.0.0.1/9) 2> /dev/null
echo done
