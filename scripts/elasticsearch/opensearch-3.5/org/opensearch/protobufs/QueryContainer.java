package org.opensearch.protobufs;

/** As QueryBuilderProtoConverter: of OpenSearch's gRPC, for its name alone. */
public final class QueryContainer {
    private QueryContainer() {}

    /** Kinds of query. */
    public enum QueryContainerCase {
        KNN
    }
}
