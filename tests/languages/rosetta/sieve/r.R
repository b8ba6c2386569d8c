limit <- 100000

is_prime <- rep(TRUE, limit - 1)
is_prime[1] <- FALSE
for (candidate in 2:floor(sqrt(limit))) {
  if (is_prime[candidate]) {
    is_prime[seq(candidate^2, limit - 1, by = candidate)] <- FALSE
  }
}
primes <- which(is_prime)

cat(primes[primes < 100], fill = 200)
cat(sprintf("%d primes below %d, the last is %d\n", length(primes), as.integer(limit), max(primes)))
