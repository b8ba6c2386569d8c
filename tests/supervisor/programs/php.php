<?php
// Much of what programs in PHP do: files, children, signals, sockets on loopback, System V objects where they are built in.
function need(mixed $value): mixed { if ($value === false) throw new Exception("failed"); return $value; }

$place = sys_get_temp_dir() . "/php" . getmypid();
need(mkdir($place));
$file = need(fopen("$place/a", "w+"));
fwrite($file, str_repeat("line\n", 1000));
need(flock($file, LOCK_EX));
rewind($file);
$count = 0;
while (fgets($file) !== false) $count++;
need($count === 1000);
need(ftruncate($file, 10));
fsync($file);
fclose($file);
need(copy("$place/a", "$place/b"));
need(rename("$place/b", "$place/c"));
need(symlink("a", "$place/l"));
need(link("$place/a", "$place/d"));
need(chmod("$place/a", 0600));
need(touch("$place/a", 1));
clearstatcache();
foreach (scandir($place) as $name) @stat("$place/$name");
glob("$place/*");
new SplFileObject("/etc/passwd");
foreach (new RecursiveIteratorIterator(new RecursiveDirectoryIterator($place, FilesystemIterator::SKIP_DOTS)) as $each) unlink($each->getPathname());
need(tempnam($place, "x"));
disk_free_space("/tmp");

exec("ls / | wc -l", $lines);
need(shell_exec("echo hi"));
$process = need(proc_open(["cat"], [["pipe", "r"], ["pipe", "w"]], $pipes));
fwrite($pipes[0], "x");
fclose($pipes[0]);
need(stream_get_contents($pipes[1]) === "x");
proc_close($process);
$sleeper = need(proc_open(["sleep", "60"], [], $none));
proc_terminate($sleeper);
proc_close($sleeper);
if (function_exists("pcntl_fork")) {
    pcntl_async_signals(true);
    $caught = 0;
    pcntl_signal(SIGUSR1, function () use (&$caught) { $caught++; });
    $pid = pcntl_fork();
    if ($pid === 0) { posix_kill(posix_getppid(), SIGUSR1); exit(5); }
    pcntl_waitpid($pid, $status);
    need(pcntl_wexitstatus($status) === 5);
    pcntl_alarm(0);
}
if (function_exists("shm_attach")) {
    $shared = need(shm_attach(ftok(__FILE__, "a"), 10000, 0600));
    shm_put_var($shared, 1, [1, 2]);
    shm_remove($shared);
    $lock = need(sem_get(7));
    sem_acquire($lock);
    sem_release($lock);
    sem_remove($lock);
    msg_remove_queue(need(msg_get_queue(8)));
}

$server = need(stream_socket_server("tcp://127.0.0.1:0"));
$client = need(stream_socket_client("tcp://" . stream_socket_get_name($server, false)));
$peer = need(stream_socket_accept($server));
fwrite($peer, "hi\n");
need(fgets($client) === "hi\n");
$read = [$client];
$nothing = null;
stream_select($read, $nothing, $nothing, 0);
[$one, $other] = need(stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0));
fwrite($one, "x");
fread($other, 1);
if (function_exists("socket_create")) {
    $udp = need(socket_create(AF_INET, SOCK_DGRAM, SOL_UDP));
    need(socket_bind($udp, "127.0.0.1"));
    socket_close($udp);
}
gethostbyname("localhost");

need(preg_match('/^(\p{L}+)\s(\d+)$/u', "Grüße 42", $found) === 1);
need(json_encode(["a" => [1, 2.5, null]]));
need(serialize(new DateTimeImmutable("2024-02-29")));
hash("sha256", random_bytes(32));
password_hash("x", PASSWORD_DEFAULT, ["cost" => 4]);
gc_collect_cycles();
usleep(1000);
hrtime(true);
ini_set("pcre.jit", "1");
function numbers() { for ($i = 0; $i < 100000; $i++) yield $i; }
need(array_sum(iterator_to_array(numbers())) === 4999950000);
$big = range(1, 1000000);
usort($big, fn ($a, $b) => $b <=> $a);
try { intdiv(1, 0); } catch (DivisionByZeroError $error) { }
getenv("PATH"); gethostname(); php_uname(); getrusage(); sys_getloadavg(); get_current_user();
echo "done\n";
