import java.util.Locale;

public interface Shape {
    String name();

    double area();

    default String describe() {
        return String.format(Locale.ROOT, "%s: %.2f", name(), area());
    }
}
