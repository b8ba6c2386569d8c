// Much of what programs in Rust do: threads, channels, files, children, sockets on loopback, panics that are caught.
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Condvar, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};
use std::{env, panic, thread};

extern "C" {
    fn mmap(at: *mut u8, size: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn munmap(at: *mut u8, size: usize) -> i32;
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn raise(number: i32) -> i32;
}

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn catch(_number: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

fn threads() {
    let (sender, receiver) = mpsc::channel();
    let total = Arc::new(Mutex::new(0));
    let ready = Arc::new((Mutex::new(0), Condvar::new()));
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let (sender, total, ready) = (sender.clone(), total.clone(), ready.clone());
            thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || {
                    *total.lock().unwrap() += number;
                    sender.send(number).unwrap();
                    *ready.0.lock().unwrap() += 1;
                    ready.1.notify_all();
                    thread::sleep(Duration::from_micros(100));
                })
                .unwrap()
        })
        .collect();
    let mut count = ready.0.lock().unwrap();
    while *count < 8 {
        count = ready.1.wait(count).unwrap();
    }
    drop(count);
    for worker in workers {
        worker.join().unwrap();
    }
    drop(sender);
    assert_eq!(receiver.iter().sum::<i32>(), *total.lock().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| RwLock::new(1).read().map(|n| *n).unwrap());
    });
    let _ = thread::available_parallelism();
    thread::yield_now();
    assert!(thread::spawn(|| panic!("on purpose")).join().is_err());
}

fn files(place: &std::path::Path) {
    let name = place.join("a");
    let mut file = OpenOptions::new().read(true).write(true).create(true).open(&name).unwrap();
    write!(file, "{}", "line\n".repeat(1000)).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1000);
    file.sync_all().unwrap();
    file.set_len(10).unwrap();
    fs::copy(&name, place.join("b")).unwrap();
    fs::rename(place.join("b"), place.join("c")).unwrap();
    fs::hard_link(&name, place.join("d")).unwrap();
    symlink("a", place.join("l")).unwrap();
    fs::set_permissions(&name, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(place.join("e/f")).unwrap();
    assert!(fs::read_dir(place).unwrap().count() >= 4);
    fs::canonicalize(place).unwrap();
    assert!(BufReader::new(File::open("/etc/passwd").unwrap()).lines().count() > 0);
    fs::metadata(&name).unwrap().modified().unwrap();
    fs::remove_dir_all(place).unwrap();
}

fn processes() {
    let done = Command::new("sh").arg("-c").arg("ls / | wc -l").env("A", "b").output().unwrap();
    assert!(done.status.success());
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"x");
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    unsafe {
        signal(10, catch);
        raise(10);
        let area = mmap(std::ptr::null_mut(), 1 << 20, 3, 0x22, -1, 0);
        *area = 1;
        munmap(area, 1 << 20);
    }
    assert_eq!(CAUGHT.load(Ordering::SeqCst), 1);
}

fn network(place: &std::path::Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"hi").unwrap());
    let mut client = TcpStream::connect(at).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    server.join().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
    udp.recv_from(&mut [0; 9]).unwrap();
    let (mut one, mut other) = UnixStream::pair().unwrap();
    one.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    let local = UnixListener::bind(place.join("socket")).unwrap();
    local.set_nonblocking(true).unwrap();
    assert!(local.accept().is_err());
}

fn main() {
    let place = env::temp_dir().join(format!("rust{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    panic::set_hook(Box::new(|_| ()));
    threads();
    network(&place);
    files(&place);
    processes();
    let mut words: HashMap<String, usize> = HashMap::new();
    for word in "a b a".split(' ') {
        *words.entry(word.to_string()).or_default() += 1;
    }
    let sorted: BTreeMap<_, _> = words.into_iter().collect();
    assert_eq!(sorted["a"], 2);
    let big: Vec<u64> = (0..5_000_000).collect();
    assert_eq!(big.iter().sum::<u64>(), 12_499_997_500_000);
    assert!(panic::catch_unwind(|| [1][big.len()]).is_err());
    assert!(Instant::now().elapsed() < Duration::from_secs(60) && SystemTime::now() > SystemTime::UNIX_EPOCH);
    println!("done");
}
