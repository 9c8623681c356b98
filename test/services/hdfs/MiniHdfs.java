import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.MiniDFSNNTopology;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.SafeModeAction;

/**
 * Hadoop's own mini-cluster: two namenodes (one active, one standby) and two datanodes in this process. Takes commands
 * on standard input, one a line, and answers each with one line; ends with its input.
 */
public class MiniHdfs {
  private static MiniDFSCluster cluster;
  private static int active = 0;

  public static void main(String[] args) throws Exception {
    Configuration configuration = new Configuration();
    configuration.set("hdfs.minidfs.basedir", args[0]);
    cluster = new MiniDFSCluster.Builder(configuration)
        .nnTopology(MiniDFSNNTopology.simpleHATopology())
        .numDataNodes(2)
        .build();
    cluster.waitActive();
    cluster.transitionToActive(0);
    try {
      Path open = new Path("/mail");
      fileSystem().mkdirs(open);
      fileSystem().setPermission(open, new FsPermission((short) 0777));
      System.out.println("ready " + address(0) + " " + address(1));
      BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
      for (String line = input.readLine(); line != null; line = input.readLine()) {
        String answer;
        try {
          answer = command(line.split(" "));
        } catch (Exception error) {
          answer = "error " + error;
        }
        System.out.println(answer.replace('\n', ' '));
      }
    } finally {
      cluster.shutdown();
    }
  }

  private static String address(int namenode) {
    return cluster.getNameNode(namenode).getHttpAddress().getPort() + "";
  }

  private static FileSystem fileSystem() throws Exception {
    return cluster.getFileSystem(active);
  }

  private static String command(String[] words) throws Exception {
    switch (words[0]) {
      case "list": {
        StringBuilder names = new StringBuilder("ok");
        if (!fileSystem().exists(new Path(words[1]))) return "ok";
        RemoteIterator<LocatedFileStatus> files = fileSystem().listFiles(new Path(words[1]), true);
        while (files.hasNext()) names.append(' ').append(files.next().getPath().toUri().getPath());
        return names.toString();
      }
      case "status": {
        var status = fileSystem().getFileStatus(new Path(words[1]));
        return "ok " + status.getLen() + " " + status.getReplication() + " " + status.getPermission() + " " + status.getOwner();
      }
      case "delete":
        fileSystem().delete(new Path(words[1]), true);
        return "ok";
      case "active":
        cluster.transitionToStandby(active);
        active = Integer.parseInt(words[1]);
        cluster.transitionToActive(active);
        return "ok";
      case "safemode":
        cluster.getNameNodeRpc(active).setSafeMode(
            words[1].equals("on") ? SafeModeAction.SAFEMODE_ENTER : SafeModeAction.SAFEMODE_LEAVE, false);
        return "ok";
      default:
        return "error unknown command";
    }
  }
}
