import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Scanner;
import java.util.zip.CRC32;

public class Checksums {
    public static void main(String[] arguments) {
        Scanner lines = new Scanner(System.in, UTF_8);
        while (lines.hasNextLine()) {
            CRC32 crc = new CRC32();
            crc.update(lines.nextLine().getBytes(UTF_8));
            System.out.printf("%08x%n", crc.getValue());
        }
    }
}
