import java.util.BitSet;
import java.util.stream.Collectors;

public class Sieve {
    static final int LIMIT = 100_000;

    public static void main(String[] arguments) {
        BitSet primes = new BitSet(LIMIT);
        primes.set(2, LIMIT);
        for (int prime = 2; prime * prime < LIMIT; prime = primes.nextSetBit(prime + 1)) {
            for (int multiple = prime * prime; multiple < LIMIT; multiple += prime) {
                primes.clear(multiple);
            }
        }

        System.out.println(primes.stream()
                .takeWhile(prime -> prime < 100)
                .mapToObj(Integer::toString)
                .collect(Collectors.joining(" ")));
        System.out.printf("%d primes below %d, the last is %d%n", primes.cardinality(), LIMIT, primes.length() - 1);
    }
}
