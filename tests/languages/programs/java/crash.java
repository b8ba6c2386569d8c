public class Crash {
    static int divide(int dividend, int divisor) {
        if (divisor == 0) {
            throw new ArithmeticException("boom");
        }
        return dividend / divisor;
    }

    public static void main(String[] arguments) {
        System.out.println("before");
        divide(1, 0);
        System.out.println("after");
    }
}
