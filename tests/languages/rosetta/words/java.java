import java.util.Comparator;
import java.util.Map;
import java.util.Scanner;
import java.util.function.Function;
import java.util.stream.Collectors;

public class Words {
    public static void main(String[] arguments) {
        Map<String, Long> counts = new Scanner(System.in)
                .findAll("[A-Za-z]+")
                .map(match -> match.group().toLowerCase())
                .collect(Collectors.groupingBy(Function.identity(), Collectors.counting()));
        counts.entrySet().stream()
                .sorted(Map.Entry.<String, Long>comparingByValue(Comparator.reverseOrder())
                        .thenComparing(Map.Entry.comparingByKey()))
                .limit(10)
                .forEach(entry -> System.out.println(entry.getValue() + " " + entry.getKey()));
    }
}
