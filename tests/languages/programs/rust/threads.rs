use std::thread;

const WORKERS: u64 = 4;
const LIMIT: u64 = 100_000;

fn sum_of_squares(first: u64) -> u64 {
    (first..=LIMIT).step_by(WORKERS as usize).map(|n| n * n).sum()
}

fn main() {
    let workers: Vec<_> = (1..=WORKERS)
        .map(|first| thread::spawn(move || sum_of_squares(first)))
        .collect();
    let parts: Vec<u64> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    println!("{} workers, total {}", parts.len(), parts.iter().sum::<u64>());
}
