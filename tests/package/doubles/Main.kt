import android.content.res.AssetManager
import android.graphics.Bitmap
import java.nio.file.Files
import java.nio.file.Paths
import vitedge.Classifier

/** assets, file, picture of RGB bytes, width, height: the answers, one a line. */
fun main(words: Array<String>) {
    val (assets, file, picture, width, height) = words
    val bitmap = Bitmap(Files.readAllBytes(Paths.get(picture)), width.toInt(), height.toInt())
    Classifier(AssetManager(Paths.get(assets)), file).use { classifier ->
        for (each in classifier.classify(bitmap, 3)) println("${each.label}\t${each.index}\t${each.score}")
    }
}
