program sieve
  implicit none
  integer, parameter :: limit = 100000
  logical :: is_prime(limit - 1)
  integer :: candidate, number
  integer, allocatable :: primes(:)

  is_prime = .true.
  is_prime(1) = .false.
  do candidate = 2, int(sqrt(real(limit)))
    if (is_prime(candidate)) is_prime(candidate**2::candidate) = .false.
  end do
  primes = pack([(number, number=1, limit - 1)], is_prime)

  print '(*(i0,:,1x))', pack(primes, primes < 100)
  print '(3(i0,a))', size(primes), ' primes below ', limit, ', the last is ', primes(size(primes))
end program sieve
