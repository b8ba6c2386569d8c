import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

public class Greeting {
    public static void main(String[] arguments) throws IOException {
        String greeting = "Grüße, 世界 🌍";
        System.out.println(greeting);
        System.out.println(greeting.codePointCount(0, greeting.length()) + " code points");
        Files.writeString(Path.of("grüße 世界.txt"), greeting + "\n");
    }
}
