import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.bytes.BytesArray;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.nativeaccess.NativeAccess;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest.Method;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/**
 * One node of the real Elasticsearch, from the jars that are published as libraries: for tests and
 * the demo, where no distribution and no container engine is at hand. Works with 8.19 and 9.x.
 *
 * <p>The modules of a distribution that are no libraries are missing: security, scripts, reindex
 * and delete by query, the processors of ingest pipelines, the token filters of analysis-common.
 *
 * <p>Arguments: the home directory (with `modules/`), then settings as `name=value`.
 */
public final class LocalElasticsearch {
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]).toAbsolutePath();
        System.setProperty("es.path.home", home.toString());
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
        NativeAccess.instance();

        var modules = bundles("loadModulesBundles", environment.modulesDir());
        var plugins = bundles("loadPluginsBundles", environment.pluginsDir());
        var node =
                new Node(
                        environment,
                        PluginsLoader.createPluginsLoader(modules, plugins, Map.of(), false));
        answerAtRoot(node.injector().getInstance(RestController.class));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
        node.start();
        Thread.currentThread().join();
    }

    /** `GET /`, which clients ask for the version, lives in a module that is no library. */
    private static void answerAtRoot(RestController controller) {
        String body =
                """
                {"name":"local","cluster_name":"elasticsearch","cluster_uuid":"local",\
                "version":{"number":"%s","build_flavor":"default","build_type":"tar",\
                "lucene_version":"%s"},"tagline":"You Know, for Search"}"""
                        .formatted(
                                org.elasticsearch.Build.current().version(),
                                org.apache.lucene.util.Version.LATEST);
        RestHandler handler =
                (request, channel, client) ->
                        channel.sendResponse(
                                new RestResponse(
                                        RestStatus.OK, "application/json", new BytesArray(body)));
        controller.registerHandler(new RestHandler.Route(Method.GET, "/"), handler);
        controller.registerHandler(new RestHandler.Route(Method.HEAD, "/"), handler);
    }

    /** 9.5 has added a flag to both methods; by reflection one source serves all versions. */
    @SuppressWarnings("unchecked")
    private static Set<org.elasticsearch.plugins.PluginBundle> bundles(String method, Path directory)
            throws Exception {
        Object found;
        try {
            found = PluginsLoader.class.getMethod(method, Path.class).invoke(null, directory);
        } catch (NoSuchMethodException e) {
            found =
                    PluginsLoader.class
                            .getMethod(method, Path.class, boolean.class)
                            .invoke(null, directory, false);
        }
        return (Set<org.elasticsearch.plugins.PluginBundle>) found;
    }

    private static void close(Node node) {
        try {
            node.close();
        } catch (Exception e) {
            e.printStackTrace();
        }
    }
}
