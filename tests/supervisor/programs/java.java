// What the Java library does by itself.
import java.net.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Ordinary {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        pool.invokeAll(Collections.nCopies(8, () -> 1));
        pool.shutdown();
        IntStream.range(0, 100000).parallel().sum();
        CompletableFuture.supplyAsync(() -> 1).get();
        Path place = Files.createTempDirectory("x");
        Path file = Files.writeString(place.resolve("f"), "hi");
        Files.copy(file, place.resolve("g"));
        try (var channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            channel.map(FileChannel.MapMode.READ_WRITE, 0, 4096).put(0, (byte) 1);
            channel.lock().release();
        }
        try (var walk = Files.walk(place)) { walk.count(); }
        try (ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
             Socket client = new Socket(server.getInetAddress(), server.getLocalPort());
             Socket peer = server.accept()) {
            client.setTcpNoDelay(true);
            client.getOutputStream().write(1);
            peer.getInputStream().read();
        }
        try (Selector selector = Selector.open()) { selector.selectNow(); }
        Collections.list(NetworkInterface.getNetworkInterfaces());
        if (new ProcessBuilder("true").start().waitFor() != 0) return;
        byte[] big = new byte[100 << 20];
        System.gc();
        Thread.sleep(5);
        new java.security.SecureRandom().nextInt();
        java.time.ZonedDateTime.now();
        Runtime.getRuntime().availableProcessors();
        System.out.println("done");
    }
}
