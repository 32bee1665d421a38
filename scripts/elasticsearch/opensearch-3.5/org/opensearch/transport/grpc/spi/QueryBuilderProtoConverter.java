package org.opensearch.transport.grpc.spi;

/**
 * A name that the plugin for vectors wants to find: its class for OpenSearch's gRPC, which is not
 * published as a library and not started here, implements it.
 */
public interface QueryBuilderProtoConverter {}
