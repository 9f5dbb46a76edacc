#!/usr/bin/env bash
# Format the data directory on the first start, then become Kafka.
#   ADVERTISED   host:port that clients are told (default: this host's name and port 9092)
#   CLUSTER_ID   id of the cluster, used on the first start (default: a random one)
#   KAFKA_HOME, KAFKA_DATA, LISTEN, CONTROLLER, KAFKA_HEAP   for other layouts than the image's
set -euo pipefail
home=${KAFKA_HOME:-/opt/kafka}
data=${KAFKA_DATA:-/var/lib/kafka}
listen=${LISTEN:-0.0.0.0:9092}
controller=${CONTROLLER:-127.0.0.1:9093}
advertised=${ADVERTISED:-$(hostname):9092}
jars=${KAFKA_JARS:-$home/jars}
read -r -a heap <<<"${KAFKA_HEAP:--Xms256m -Xmx1g}"

case $listen in
  127.* | localhost:*) ;;
  *) echo "start.sh: WARNING: PLAIN MODE: Kafka listens on $listen without passwords and encryption. Whoever reaches it" \
      "reads everything and writes as anybody: let only the bus's own network reach it, and see" \
      "docs/decisions/0011-plain-kafka-in-its-own-network.md before money is at stake." >&2 ;;
esac

settings=$data/server.properties
umask 077
{
  cat "$home/server.properties"
  echo "log.dirs=$data/log"
  echo "listeners=CLIENT://$listen,CONTROLLER://$controller"
  echo "advertised.listeners=CLIENT://$advertised"
  echo "controller.quorum.voters=1@$controller"
} >"$settings"

kafka() {
  exec java "${heap[@]}" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$home/log4j2.properties" -cp "$jars/*" "$@"
}

if [ ! -f "$data/log/meta.properties" ]; then
  id=${CLUSTER_ID:-$( (kafka kafka.tools.StorageTool random-uuid) | tail -n 1)}
  (kafka kafka.tools.StorageTool format -t "$id" -c "$settings")
fi
kafka kafka.Kafka "$settings"
