import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

public class LineNumbers {
    public static void main(String[] arguments) throws IOException {
        List<String> numbered = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("input.txt"))) {
            numbered.add((numbered.size() + 1) + ": " + line);
        }
        Files.write(Path.of("output.txt"), numbered);
        System.out.println(numbered.size() + " lines");
    }
}
