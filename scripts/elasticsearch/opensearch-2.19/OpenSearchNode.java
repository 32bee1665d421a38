import java.util.List;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.env.Environment;
import org.opensearch.knn.plugin.KNNPlugin;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** A node of OpenSearch 2.19 with its plugins. */
final class OpenSearchNode extends Node {
    OpenSearchNode(Environment environment) {
        super(
                environment,
                List.of(Netty4Plugin.class, CommonAnalysisPlugin.class, KNNPlugin.class),
                true);
    }
}
