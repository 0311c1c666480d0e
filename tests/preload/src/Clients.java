import java.net.*; import java.net.http.*; import java.nio.*; import java.nio.channels.*;
public class Clients { public static void main(String[] a) throws Exception {
 var c=(HttpURLConnection)new URL("http://203.0.113.80/").openConnection(); System.out.println("url "+c.getResponseCode());
 var s=new Socket("203.0.113.80",80); System.out.println("socket "+s.getRemoteSocketAddress()+" "+s.getLocalAddress());
 var r=HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://203.0.113.80/")).build(),HttpResponse.BodyHandlers.ofString()); System.out.println("client "+r.statusCode());
 var sel=Selector.open(); var ch=SocketChannel.open(); ch.configureBlocking(false); ch.register(sel,SelectionKey.OP_CONNECT); ch.connect(new InetSocketAddress("203.0.113.80",80)); int n=sel.select(5000); System.out.println("nio "+n+" "+ch.finishConnect()+" "+ch.getRemoteAddress());
 System.exit(0); } }
