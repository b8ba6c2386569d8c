import java.math.BigInteger;
import java.util.List;
import java.util.stream.LongStream;

public class Factorial {
    static BigInteger factorial(long number) {
        return LongStream.rangeClosed(1, number).mapToObj(BigInteger::valueOf).reduce(BigInteger.ONE, BigInteger::multiply);
    }

    public static void main(String[] arguments) {
        for (long number : List.of(5, 25, 50)) {
            System.out.println(number + "! = " + factorial(number));
        }
    }
}
