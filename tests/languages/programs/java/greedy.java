import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

public class Greedy {
    public static void main(String[] arguments) {
        List<byte[]> blocks = new ArrayList<>();
        while (true) {
            byte[] block = new byte[16 << 20];
            Arrays.fill(block, (byte) 1);
            blocks.add(block);
        }
    }
}
