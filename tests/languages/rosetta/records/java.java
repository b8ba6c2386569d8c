import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Comparator;

public class Records {
    record Employee(String name, String department, int salary) {
        static Employee parse(String line) {
            String[] fields = line.split(",");
            return new Employee(fields[0], fields[1], Integer.parseInt(fields[2]));
        }
    }

    public static void main(String[] arguments) {
        new BufferedReader(new InputStreamReader(System.in))
                .lines()
                .map(Employee::parse)
                .sorted(Comparator.comparing(Employee::department)
                        .thenComparing(Employee::salary, Comparator.reverseOrder())
                        .thenComparing(Employee::name))
                .forEach(e -> System.out.printf("%-10s %-8s %6d%n", e.department(), e.name(), e.salary()));
    }
}
