const LIMIT: usize = 100_000;

fn primes_below(limit: usize) -> Vec<usize> {
    let mut is_prime = vec![true; limit];
    is_prime[..2].fill(false);
    let mut candidate = 2;
    while candidate * candidate < limit {
        if is_prime[candidate] {
            for multiple in (candidate * candidate..limit).step_by(candidate) {
                is_prime[multiple] = false;
            }
        }
        candidate += 1;
    }
    (0..limit).filter(|&number| is_prime[number]).collect()
}

fn main() {
    let primes = primes_below(LIMIT);
    let small: Vec<String> = primes.iter().take_while(|&&prime| prime < 100).map(usize::to_string).collect();
    println!("{}", small.join(" "));
    println!("{} primes below {}, the last is {}", primes.len(), LIMIT, primes[primes.len() - 1]);
}
