import java.util.Arrays;
import java.util.stream.Collectors;

public class MatrixProduct {
    static long[][] product(long[][] left, long[][] right) {
        long[][] result = new long[left.length][right[0].length];
        for (int row = 0; row < left.length; row++) {
            for (int column = 0; column < right[0].length; column++) {
                for (int index = 0; index < right.length; index++) {
                    result[row][column] += left[row][index] * right[index][column];
                }
            }
        }
        return result;
    }

    public static void main(String[] arguments) {
        long[][] answer = product(new long[][] {{1, 2, 3}, {4, 5, 6}}, new long[][] {{7, 8}, {9, 10}, {11, 12}});
        for (long[] row : answer) {
            System.out.println(Arrays.stream(row).mapToObj(Long::toString).collect(Collectors.joining(" ")));
        }

        long[][] power = {{1, 0}, {0, 1}};
        for (int count = 0; count < 70; count++) {
            power = product(power, new long[][] {{1, 1}, {1, 0}});
        }
        System.out.println("fibonacci(70) = " + power[0][1]);
    }
}
