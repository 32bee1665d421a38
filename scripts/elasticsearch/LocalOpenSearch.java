import java.nio.file.Path;
import java.util.Map;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;

/**
 * One node of the real OpenSearch, from the jars that are published as libraries: for tests, where
 * no distribution and no container engine is at hand. Works with 2.19 and 3.5, each with an
 * OpenSearchNode of its own.
 *
 * <p>Of a distribution's plugins it has the one for vectors, with Lucene's engine alone: the native
 * libraries of the others are not published.
 *
 * <p>Arguments: the home directory, then settings as `name=value`.
 */
public final class LocalOpenSearch {
    private LocalOpenSearch() {}

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]).toAbsolutePath();
        System.setProperty("opensearch.path.home", home.toString());
        var settings = Settings.builder().put("path.home", home.toString());
        for (int i = 1; i < arguments.length; i++) {
            String[] setting = arguments[i].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
        var environment =
                InternalSettingsPreparer.prepareEnvironment(
                        settings.build(), Map.of(), home.resolve("config"), () -> "local");
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureWithoutConfig(environment.settings());
        var node = new OpenSearchNode(environment);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        node.start();
        Thread.currentThread().join();
    }

    private static void close(Node node) {
        try {
            node.close();
        } catch (Exception e) {
            e.printStackTrace();
        }
    }
}
