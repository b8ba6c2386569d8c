import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Threads {
    static final int WORKERS = 4;
    static final int LIMIT = 100_000;

    static long sumOfSquares(int first) {
        long sum = 0;
        for (long n = first; n <= LIMIT; n += WORKERS) {
            sum += n * n;
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        List<Callable<Long>> tasks = new ArrayList<>();
        for (int first = 1; first <= WORKERS; first++) {
            int start = first;
            tasks.add(() -> sumOfSquares(start));
        }
        ExecutorService pool = Executors.newFixedThreadPool(WORKERS);
        long total = 0;
        for (Future<Long> part : pool.invokeAll(tasks)) {
            total += part.get();
        }
        pool.shutdown();
        System.out.println(tasks.size() + " workers, total " + total);
    }
}
