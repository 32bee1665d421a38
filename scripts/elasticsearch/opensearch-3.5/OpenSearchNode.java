import java.util.List;
import org.opensearch.Version;
import org.opensearch.analysis.common.CommonAnalysisModulePlugin;
import org.opensearch.env.Environment;
import org.opensearch.knn.plugin.KNNPlugin;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** A node of OpenSearch 3.5 with its plugins. */
final class OpenSearchNode extends Node {
    OpenSearchNode(Environment environment) {
        super(
                environment,
                List.of(
                        onClassPath(Netty4ModulePlugin.class),
                        onClassPath(CommonAnalysisModulePlugin.class),
                        onClassPath(KNNPlugin.class)),
                true);
    }

    private static PluginInfo onClassPath(Class<? extends Plugin> plugin) {
        String name = plugin.getName();
        return new PluginInfo(name, "", "", Version.CURRENT, "21", name, null, List.of(), false);
    }
}
